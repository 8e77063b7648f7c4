import java.awt.FlowLayout;
import javax.swing.*;

// A text area and a box with choices.
public class Swing {
	public static void main(String[] args) {
		SwingUtilities.invokeLater(() -> {
			JPopupMenu.setDefaultLightWeightPopupEnabled(false); // windows of their own
			JFrame f = new JFrame("Swing");
			f.setLayout(new FlowLayout());
			JTextArea text = new JTextArea(6, 30);
			f.add(text);
			f.add(new JComboBox<>(new String[] {"one", "two", "three", "four"}));
			f.setDefaultCloseOperation(JFrame.EXIT_ON_CLOSE);
			f.setSize(500, 220);
			f.setVisible(true);
			text.requestFocus();
		});
	}
}
